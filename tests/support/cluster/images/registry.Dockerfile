# The distribution registry, for clusters that cannot pull an image. The context holds its static binary.
FROM scratch
COPY registry /bin/registry
ENV PATH=/bin
USER 65532:65532
ENTRYPOINT ["registry"]
