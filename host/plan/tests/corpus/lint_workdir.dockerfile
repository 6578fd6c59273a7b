FROM scratch AS one
WORKDIR app
WORKDIR further
FROM scratch AS two
WORKDIR /app
WORKDIR further
FROM two AS three
WORKDIR inherited
FROM scratch AS four
ENV DIR=/app
WORKDIR $DIR
FROM scratch
WORKDIR ${UNSET:-relative}/x
