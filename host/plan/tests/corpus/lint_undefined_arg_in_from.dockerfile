ARG VERSION=1
ARG EMPTY
ARG OS
FROM alpine:$VERSION AS good
FROM alpine:${VERSIO} AS slip
FROM alpine$EMPTY AS declared_is_enough
FROM --platform=$PLATFORM alpine:3 AS platform
FROM --platform=$TARGETPLATFROM alpine:3 AS predefined
FROM --platform=$BUILDPLATFORM alpine:${VERSION:-1} AS good2
