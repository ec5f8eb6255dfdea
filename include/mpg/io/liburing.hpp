// <liburing.h>, without what it brings in by accident: the kernel's <linux/fs.h> defines a macro BLOCK_SIZE, which
// moodycamel's ConcurrentQueue, among others, uses as a name.
#pragma once

#if defined(BLOCK_SIZE)
#include <liburing.h>
#else
#include <liburing.h>
#undef BLOCK_SIZE
#endif
