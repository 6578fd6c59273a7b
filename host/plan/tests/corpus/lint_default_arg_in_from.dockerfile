ARG EMPTY
ARG TAG
ARG WITH_DEFAULT=3
FROM $EMPTY AS empty
FROM alpine:$TAG AS no_tag
FROM alpine:${TAG:-1} AS good
FROM alpine:$WITH_DEFAULT AS good2
FROM Alpine AS capitals
FROM example.org:5000/team/app:1 AS good3
