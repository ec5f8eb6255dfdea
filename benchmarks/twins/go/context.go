package main

import (
	"context"
	"time"
)

func init() {
	addOperation("context/timeout_cancel", func(n int) {
		for k := 0; k < n; k++ {
			_, cancel := context.WithTimeout(context.Background(), time.Hour)
			cancel()
		}
	})

	addOperation("context/cancel", func(n int) {
		for k := 0; k < n; k++ {
			_, cancel := context.WithCancel(context.Background())
			cancel()
		}
	})
}
