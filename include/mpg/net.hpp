// Sockets and names: TCP, Unix and UDP sockets, endpoints, name lookup.
//
//   auto listener = mpg::net::tcp_listener::bind(":8080");
//   if (!listener) return std::cerr << listener.error().message() << '\n', 1;
//   while (auto stream = listener->accept())
//       mpg::go([s = std::move(*stream)]() mutable {
//           std::array<std::byte, 4096> buffer;
//           while (auto n = s.read(buffer)) {
//               if (*n == 0 || !s.write(std::span(buffer).first(*n))) break;
//           }
//       });
//
// Errors are values (result.hpp); nothing here throws, but for std::bad_alloc and mpg::unwound. An operation
// suspends its task alone; on a plain thread it blocks that thread. Details stand with stream_socket.
#pragma once

#include <mpg/io.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/net/resolve.hpp>
#include <mpg/net/tcp.hpp>
#include <mpg/net/udp.hpp>
#include <mpg/net/unix.hpp>
#include <mpg/net/unix_packet.hpp>
#include <mpg/sched/whole.hpp>
