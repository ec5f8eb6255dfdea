// The twin of examples/health_server, as far as the benchmarks look: GET /healthz.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"
)

func main() {
	addr := flag.String("addr", ":8080", "HOST:PORT to listen on")
	procs := flag.Int("procs", 0, "GOMAXPROCS; 0: as it is")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"status\":\"ok\",\"timestamp\":%d}", time.Now().Unix())
	})
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, nil))
	os.Exit(1)
}
