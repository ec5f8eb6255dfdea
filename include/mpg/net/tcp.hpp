// TCP: listeners and streams.
#pragma once

#include <mpg/net/tcp_listener.hpp>
#include <mpg/net/tcp_stream.hpp>
