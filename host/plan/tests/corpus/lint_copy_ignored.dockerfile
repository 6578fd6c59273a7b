# check=experimental=CopyIgnoredFile
FROM scratch AS base
COPY ignored.txt other.txt /
COPY ./ignored/file /
COPY --from=base ignored.txt /
ADD --chmod=644 ignored.txt https://example.org/ignored.txt /
COPY . /
COPY <<ignored.txt /f
ignored.txt
