# Debian's own redis-server with the libraries it is linked to and nothing else, for clusters that cannot pull an image.
ARG BASE
FROM ${BASE} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null
RUN mkdir -p /out/usr/bin /out/data && chown 65532:65532 /out/data \
 && for program in redis-server redis-cli; do \
      cp -L "/usr/bin/$program" /out/usr/bin/ \
      && ldd "/usr/bin/$program" | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /out/ || exit 1; \
    done

FROM scratch
COPY --from=build /out /
ENV PATH=/usr/bin
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["redis-server"]
