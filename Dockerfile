# One image, two entry points: `perdure operator` and `perdure host` (and the Jobs' `perdure purge`).
# It runs as any user on a read-only root file system; what it writes goes to mounted volumes.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# For the extension module: the final image has no compiler.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
 && { [ -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] \
      || apt-get install -y -qq --no-install-recommends python3-dev; } \
 && rm -rf /var/lib/apt/lists/*
# The dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN python3 -m venv /opt/perdure \
 && /opt/perdure/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY operator ./operator
RUN /opt/perdure/bin/pip install --no-cache-dir --no-deps . \
 && /opt/perdure/bin/python -c 'import perdure.component._crossing' \
 && /opt/perdure/bin/python -m compileall -q /opt/perdure/lib \
 && rm -rf /opt/perdure/lib/python*/site-packages/pip /opt/perdure/lib/python*/site-packages/setuptools

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="perdure" \
      org.opencontainers.image.description="Durable key-value workers on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/perdure /opt/perdure
ENV PATH=/opt/perdure/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["perdure"]
CMD ["--help"]
