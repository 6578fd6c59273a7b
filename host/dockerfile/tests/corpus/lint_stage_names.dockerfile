FROM alpine AS one
FROM alpine AS two
FROM alpine AS one
FROM alpine AS One
FROM alpine AS context
FROM alpine AS scratch
FROM alpine
FROM alpine
