"""Django's own apps, set up for this project."""

from django.contrib.admin.apps import SimpleAdminConfig


class AdminConfig(SimpleAdminConfig):
    default_site = "certification.admin_site.Site"
