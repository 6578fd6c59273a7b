# syntax=example/frontend:1
# escape=`
FROM base AS Build
RUN dir C:\x && `
  # a comment

  echo `"quoted`" `
  done
ENV A=b` c D="e` f"
