// Channels.
//
//   mpg::chan<int> numbers(16);               // a buffer of 16; chan<int>() meets: unbuffered
//   mpg::go([numbers] {                       // a handle: the copy is the same channel
//       for (int i = 0; i < 100; ++i) numbers.send(i);
//       numbers.close();
//   });
//   for (int n : numbers) use(n);             // until closed and drained
//
// chan<T>          send, recv, try_, timed and cancellable forms, close, range; from tasks and plain threads
// send_chan<T>     recv_chan<T>: one-way views, to which chan<T> converts
// elastic_chan<T>  grows and shrinks, numbers its values, may drop
// Waiting for several at once: <mpg/select.hpp>. The argument why it is right: <mpg/chan/core.hpp>.
#pragma once

#include <mpg/chan/chan.hpp>
#include <mpg/chan/elastic.hpp>
#include <mpg/chan/status.hpp>
#include <mpg/sched/whole.hpp>
