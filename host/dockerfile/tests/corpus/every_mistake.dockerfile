# syntax=a
# syntax=b
# escape=x
# check=error=maybe
RUN too early
FROM --plaform=x a AS 1st
FRM b
ENV KEY
ENV a=1 b c=2
LABEL
ARG
ARG =x
CMD ["a", 1]
CMD ['a', 'b']
ENTRYPOINT [“a”]
HEALTHCHECK CMD [null]
ONBUILD ONBUILD RUN x
ONBUILD FROM x
ONBUILD FOO
ONBUILD
FROM c AS Two
FROM d AS tWo
FROM e as
RUN a \

  b
nstall c
RUN <<EOF
text
  EOF
COPY <<LAST /x
never
ends
