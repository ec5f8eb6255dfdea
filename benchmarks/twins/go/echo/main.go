// The twin of echo_server.cpp: sends back what it gets.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", ":7777", "HOST:PORT to listen on")
	procs := flag.Int("procs", 0, "GOMAXPROCS; 0: as it is")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		stream, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			defer stream.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := stream.Read(buffer)
				if err != nil {
					return
				}
				switch buffer[0] {
				case 'b':
					for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
					}
				case 'w':
					ten := syscall.Timespec{Nsec: 10e6}
					syscall.Nanosleep(&ten, nil)
				}
				if _, err := stream.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}
