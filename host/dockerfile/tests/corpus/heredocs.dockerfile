FROM a
# what the script does
RUN --mount=type=cache,target=/c <<EOF bash -x
# no comment
echo "hi" \
FROM here
EOF
COPY <<A <<'B C' 3<<D /dst/
B C
A
A
B C
D
COPY << EOF /apart
x
EOF
ONBUILD RUN <<-E
	tab
	E
TEMPLATE <<T to
{{ x }}
T
RUN ["<<NONE"]
RUN "<<NONE" '<<NONE' x<<NONE <<<NONE
ENV A=<<NONE
RUN echo $(cat <<IN
inner
IN
)
