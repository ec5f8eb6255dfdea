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

	addOperation("context/tree/nodes:1000", func(n int) {
		nodes := make([]context.Context, 1000)
		cancels := make([]context.CancelFunc, 1000) // the root's is enough
		for k := 0; k < n; k++ {
			nodes[0], cancels[0] = context.WithCancel(context.Background())
			for i := 1; i < 1000; i++ {
				nodes[i], cancels[i] = context.WithCancel(nodes[(i-1)/10])
			}
			cancels[0]()
			if nodes[999].Err() == nil {
				panic("not cancelled")
			}
		}
	})
}
