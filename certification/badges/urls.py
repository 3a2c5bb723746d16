"""Badges. A model's id may hold dots, colons and slashes, so the whole address is one argument."""

from django.urls import path, re_path

from certification.badges import views

urlpatterns = [
    path("", views.builder_page, name="badges"),
    re_path(r"^(?P<address>[\s\S]+)$", views.badge, name="badge"),
]
