"""What lets people see: logs, measurements, health."""
