# syntax=docker/dockerfile:1

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
# pg_query_go is C: the binary is linked statically with glibc. Name and user
# look-ups are Go's own, time zones come with the binary.
RUN make static VERSION=${VERSION}

FROM alpine:3.22
COPY --from=build /src/bin/qvpgw /usr/local/bin/qvpgw
COPY --from=build /src/config.yaml /etc/qvpgw/config.yaml
RUN adduser -D -H -u 65532 -s /sbin/nologin qvpgw
USER 65532:65532
WORKDIR /var/empty
EXPOSE 6432 8432
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
	CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8432/readyz"]
ENTRYPOINT ["/usr/local/bin/qvpgw"]
CMD ["serve", "--config", "/etc/qvpgw/config.yaml"]
