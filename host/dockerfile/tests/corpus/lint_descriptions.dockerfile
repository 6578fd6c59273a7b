# check=experimental=InvalidDefinitionDescription

# VERSION which one to build
ARG VERSION=1
# which one to build
ARG OTHER=1
# about two of them
ARG A B
# B is the second
ARG A B

# A comment apart.

ARG C
# a comment
#
ARG D
# Base is the base
FROM alpine AS base
# base is the base
FROM alpine AS base2
# without a name there is nothing to describe
FROM alpine
# an ordinary comment
RUN x
