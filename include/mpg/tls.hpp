// TLS over OpenSSL 3: a component of its own, mpg::tls. Who does not include this header needs no OpenSSL.
//
//   auto config = mpg::tls::config::client({.alpn = {"http/1.1"}});         // verified by the system's roots
//   auto stream = mpg::tls::stream::connect("example.org:443", *config);
//   stream->write(request);
//
//   auto source = mpg::tls::certificate_source::from_files("chain.pem", "key.pem");
//   auto config = mpg::tls::config::server({.certificates = {*source}});
//   auto listener = mpg::tls::listener::bind(":443", *config);
//   while (auto stream = listener->accept()) mpg::go(serve, std::move(*stream));
//   source->reload();                       // elsewhere: new handshakes show the new certificate
//
// Errors are values, as in <mpg/net.hpp>; which ones there are: <mpg/tls/error.hpp>. Only std::bad_alloc and
// mpg::unwound are thrown. A handshake uses some 20 KiB of its task's stack.
#pragma once

#include <mpg/net.hpp>
#include <mpg/sched/whole.hpp>
#include <mpg/tls/certificate.hpp>
#include <mpg/tls/config.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/http.hpp>
#include <mpg/tls/listener.hpp>
#include <mpg/tls/make_config.hpp>
#include <mpg/tls/options.hpp>
#include <mpg/tls/peer_certificate.hpp>
#include <mpg/tls/roots.hpp>
#include <mpg/tls/state.hpp>
#include <mpg/tls/stream.hpp>
