FROM a
RUN café ÿ
\
