# A tag may come to mean another image; a digest does not: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements.txt .
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.txt

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin limiter \
 && install -d -o limiter -g limiter /data
COPY --from=build /venv /venv
WORKDIR /srv
COPY wsgi.py gunicorn.conf.py ./
COPY migrations migrations
COPY app app
RUN /venv/bin/python -m compileall -q app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FLASK_APP=wsgi BIND=0.0.0.0 DATA_DIR=/data
USER 10001:10001
EXPOSE 8000
# Drains, as gunicorn's master does when it is process 1: give it more than DRAIN_SECONDS plus 10 before a SIGKILL.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.getenv('PORT', 8000)}/readyz\", timeout=2)"]
CMD ["gunicorn", "wsgi:app"]
