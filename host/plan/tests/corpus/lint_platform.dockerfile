FROM --platform=linux/amd64 alpine AS base
FROM --platform=linux/amd64 alpine AS base-amd64
FROM --platform=linux/arm64 alpine AS linux
FROM --platform=$BUILDPLATFORM alpine AS build
FROM --platform=$TARGETPLATFORM alpine AS target
FROM --platform=${TARGETPLATFORM} alpine AS braces
FROM --platform=linux/$TARGETARCH alpine AS composed
FROM example/for-another-platform
