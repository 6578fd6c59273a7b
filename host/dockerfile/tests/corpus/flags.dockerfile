from --platform="linux/arm64" a
CoPy --from=b --chown=u:g \
  --chmod=755 --link \
  -- --odd name/
RUN --mount='type=secret,id=a b' --network=none --a\ b=c\"d --last
TEMPLATE --x --y= z --not-a-flag
CMD --unknown ["a"]
