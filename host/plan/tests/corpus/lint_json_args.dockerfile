FROM scratch AS one
CMD echo "$HOME"
ENTRYPOINT /app --serve
HEALTHCHECK CMD curl localhost
FROM scratch AS two
SHELL ["/bin/bash", "-c"]
CMD chosen
ENTRYPOINT ["/app"]
FROM two AS three
CMD inherited
FROM example/with-shell
CMD of the image
