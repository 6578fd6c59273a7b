FROM alpine
MAINTAINER me@example.org
ENV A b c
ENV A=b C=d
ENV D e=f
LABEL a b
label a=b
ONBUILD ENV A b
RUN one \

  two \
  # a comment is no blank line

  three
COPY a \
  b
