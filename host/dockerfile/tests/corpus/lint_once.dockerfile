FROM alpine AS one
CMD ["first"]
ENTRYPOINT ["first"]
CMD ["second"]
HEALTHCHECK CMD ["first"]
cmd \
  ["third"]
HEALTHCHECK NONE
FROM one AS two
CMD ["of another stage"]
ENTRYPOINT ["of another stage"]
RUN a
RUN b
