# check=error=true;skip=JSONArgsRecommended
FROM scratch AS Unused
ENV OF_A_STAGE that_is_not_built
FROM scratch AS target
CMD skipped
WORKDIR app
