# Debian's own redis-server, for clusters that cannot pull an image.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \
 && rm -rf /var/lib/apt/lists/* && mkdir -p /data && chown 65532:65532 /data
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["redis-server"]
