// The other side of tests/tls_peers_test.cpp: Go's crypto/tls.
//
//	tls_peer client ADDRESS ROOTS ROUNDS MAX_VERSION   each round sends a megabyte, wants it back, and says "version resumed alpn"
//	tls_peer server CERTIFICATE KEY                    says its address, gives back what comes
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
)

func client(address, roots string, rounds, max int) {
	pem, err := os.ReadFile(roots)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "echo"},
		MaxVersion: uint16(max), ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for i := 0; i < rounds; i++ {
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			log.Fatal(err)
		}
		data := make([]byte, 1<<20)
		rand.Read(data)
		sent := make(chan error)
		go func() {
			_, err := conn.Write(data)
			if err == nil {
				err = conn.CloseWrite()
			}
			sent <- err
		}()
		back, err := io.ReadAll(conn) // a truncated stream is an error here
		if err != nil {
			log.Fatal(err)
		}
		if err := <-sent; err != nil {
			log.Fatal(err)
		}
		if !bytes.Equal(data, back) {
			log.Fatal("other bytes came back")
		}
		s := conn.ConnectionState()
		fmt.Printf("%x %v %s\n", s.Version, s.DidResume, s.NegotiatedProtocol)
		conn.Close()
	}
}

func server(certificate, key string) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		log.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"echo"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				defer conn.Close()
				if _, err := io.Copy(conn, conn); err != nil {
					fmt.Println(err)
				}
			}(conn)
		}
	}()
	select {}
}

func main() {
	switch os.Args[1] {
	case "client":
		rounds, _ := strconv.Atoi(os.Args[4])
		max, _ := strconv.ParseInt(os.Args[5], 16, 32)
		client(os.Args[2], os.Args[3], rounds, int(max))
	case "server":
		server(os.Args[2], os.Args[3])
	}
}
