"""Badges. A model's id may hold dots, colons and slashes, so the whole address is one argument."""

from django.urls import re_path

from certification.badges import views

urlpatterns = [re_path(r"^(?P<address>[\s\S]+)$", views.badge, name="badge")]
