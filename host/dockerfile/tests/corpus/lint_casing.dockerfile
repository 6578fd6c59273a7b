# The keywords before the first stage do not count.
arg VERSION=1
FROM alpine AS Base
run one
Run two
RUN three \
  four
# A name in small letters, and `as` in those of FROM.
FROM alpine AS good
FROM alpine as bad
from alpine AS worse
From alpine aS mixed
TEMPLATE known to a plugin
template known to a plugin
