module rig/cassandra

go 1.26.0

require (
	github.com/gocql/gocql v1.7.0
	software.sslmate.com/src/go-pkcs12 v0.2.0
)

require (
	github.com/golang/snappy v0.0.3 // indirect
	github.com/hailocab/go-hostpool v0.0.0-20160125115350-e80d13ce29ed // indirect
	golang.org/x/crypto v0.0.0-20220331220935-ae2d96664a29 // indirect
	gopkg.in/inf.v0 v0.9.1 // indirect
)
