ARG GLOBAL_PASSWORD
FROM alpine
ARG DATABASE_PASSWORD OTHER TOKEN=1
ENV api_key=1 KEYBOARD=2 PUBLIC_KEY=3 AUTH_FILE=4
ENV credentials x
LABEL secret=1
# check=skip=SecretsUsedInArgOrEnv // a test's password
ENV PASSWORD=x
