// The Go side of http_peers_test: `serve` prints its address and serves until its input ends; `ask URL` asks a server of
// ours and says "ok", or what is wrong.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func serve() {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", 302) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Size")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Size", fmt.Sprint(n))
	})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go http.Serve(l, mux)
	io.Copy(io.Discard, os.Stdin)
}

func check(ok bool, what ...any) {
	if !ok {
		fmt.Println(what...)
		os.Exit(1)
	}
}

func ask(url string) {
	get := func(r *http.Request) (int, string, http.Header) {
		resp, err := http.DefaultClient.Do(r)
		check(err == nil, err)
		body, err := io.ReadAll(resp.Body)
		check(err == nil, err)
		resp.Body.Close()
		return resp.StatusCode, string(body), resp.Trailer
	}
	request := func(method, path string, body io.Reader) *http.Request {
		r, err := http.NewRequest(method, url+path, body)
		check(err == nil, err)
		return r
	}
	for i := 0; i < 100; i++ { // on one connection
		code, body, _ := get(request("GET", "/ok", nil))
		check(code == 200 && body == "ok", code, body)
	}
	big := strings.Repeat("0123456789", 100_000)
	for _, chunked := range []bool{false, true} {
		var body io.Reader = bytes.NewReader([]byte(big))
		if chunked {
			body = struct{ io.Reader }{body}
		}
		r := request("POST", "/echo", body)
		r.Header.Set("Expect", "100-continue")
		code, got, _ := get(r)
		check(code == 200 && got == big, "echo", code, len(got))
	}
	code, body, trailer := get(request("GET", "/trailer", nil))
	check(code == 200 && body == "body" && trailer.Get("X-Sum") == "42", "trailer", code, body, trailer)
	code, body, _ = get(request("HEAD", "/ok", nil))
	check(code == 200 && body == "", "HEAD", code, body)
	code, _, _ = get(request("DELETE", "/ok", nil))
	check(code == 405, "405", code)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	_, err := http.DefaultClient.Do(request("GET", "/never", nil).WithContext(ctx))
	check(err != nil, "a request that is never answered")
	cancel()
	var all sync.WaitGroup
	for i := 0; i < 20; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 20; j++ {
				code, body, _ := get(request("GET", "/ok", nil))
				check(code == 200 && body == "ok", code, body)
			}
		}()
	}
	all.Wait()
	fmt.Println("ok")
}

func main() {
	if os.Args[1] == "serve" {
		serve()
	} else {
		ask(os.Args[2])
	}
}
