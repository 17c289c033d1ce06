# The service, without the embedded servers: `docker build -t ratelimiter .`
FROM python:3.11-slim-bookworm AS packages
COPY requirements.txt /
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r /requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /srv --no-create-home limiter \
 && install --directory --owner limiter --mode 700 /data
COPY --from=packages /venv /venv
WORKDIR /srv
COPY wsgi.py gunicorn.conf.py ./
COPY migrations migrations
COPY app app
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 BIND=0.0.0.0 PORT=8000 DATA_DIR=/data
USER 10001
VOLUME /data
EXPOSE 8000
# gunicorn's master is process 1 and drains on TERM: a stop takes DRAIN_SECONDS + graceful_timeout (10 s) at most.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --start-interval=500ms --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=2)"]
CMD ["gunicorn", "wsgi:app"]
