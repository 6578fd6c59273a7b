FROM a
# c
RUN one \
  two
COPY <<EOF <<-"RAW" /x/
first $A
EOF
		second $B
	RAW
RUN last