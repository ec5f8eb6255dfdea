// moodycamel's ConcurrentQueue stands in different places in different packages.
#pragma once

// The kernel's <linux/fs.h> (and so <liburing.h>) defines a macro of a name that the queue uses.
#pragma push_macro("BLOCK_SIZE")
#undef BLOCK_SIZE
#if __has_include(<concurrentqueue/concurrentqueue.h>)
#include <concurrentqueue/concurrentqueue.h>
#elif __has_include(<concurrentqueue/moodycamel/concurrentqueue.h>)
#include <concurrentqueue/moodycamel/concurrentqueue.h>
#else
#include <concurrentqueue.h>
#endif
#pragma pop_macro("BLOCK_SIZE")
