"""gunicorn behind a proxy on the same machine: ``gunicorn --config deploy/gunicorn.conf.py 'server_data_archive:app'``.

The environment decides: ``ARCHIVER_CONFIG`` (the configuration, needed), ``ARCHIVER_BIND`` (127.0.0.1:8000),
``ARCHIVER_WORKERS`` (2 processes) and ``ARCHIVER_THREADS`` (8 threads of each).
"""

import os

bind = os.environ.get("ARCHIVER_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("ARCHIVER_WORKERS", "2"))
worker_class = "gthread"
threads = int(os.environ.get("ARCHIVER_THREADS", "8"))

timeout = 120  # of a process that does not answer its master; long downloads do not count
graceful_timeout = 30
keepalive = 75  # longer than nginx keeps its connections
max_requests, max_requests_jitter = 20_000, 2_000

limit_request_line = 8190  # searches with a list of targets have long addresses
limit_request_fields = 60
limit_request_field_size = 8190

forwarded_allow_ips = os.environ.get("ARCHIVER_PROXIES", "127.0.0.1")
umask = 0o027
accesslog = os.environ.get("ARCHIVER_ACCESS_LOG", "-")
access_log_format = '%(h)s "%(r)s" %(s)s %(B)s %(D)sus'
errorlog = "-"
