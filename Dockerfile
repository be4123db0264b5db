# syntax=docker/dockerfile:1
# relook with the CPU build of torch. Build: docker build --tag relook .
# The first stage builds an environment, the second one runs it, as a user without rights and without a compiler.

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/relook
ENV PATH=/opt/relook/bin:$PATH
RUN pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE relook.py ./
COPY pipeline pipeline
COPY configs configs
COPY data/samples data/samples
RUN pip install '.[ann,serve]'

FROM python:3.12-slim-bookworm
ENV PATH=/opt/relook/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin relook \
    && install --directory --owner=relook --group=relook /data
COPY --from=build /opt/relook /opt/relook
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/tmp"]
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/readyz', timeout=4)"]
ENTRYPOINT ["relook"]
CMD ["serve", "--index", "/data/index", "--host", "0.0.0.0"]
