"""The web process: `gunicorn myia.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myia.settings")

application = get_wsgi_application()
