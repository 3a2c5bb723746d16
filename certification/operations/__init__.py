"""What an installation needs to run for years: backups, routines, retention, the audit trail."""
