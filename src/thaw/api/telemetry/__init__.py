"""CloudWatch Logs and CloudWatch metrics on the server's own port, for reading, and `/metrics` for Prometheus."""
