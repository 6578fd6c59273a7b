FROM a\
  :1 \

\
 AS b
RUN x\\
RUN y\\\
RUN z \ 	
# gone
 z2 \