// What a handshake has agreed on.
#pragma once

#include <mpg/tls/peer_certificate.hpp>

#include <openssl/ssl.h>

#include <cstdint>
#include <string>

namespace mpg::tls {

enum class version : std::uint16_t { tls1_2 = TLS1_2_VERSION, tls1_3 = TLS1_3_VERSION };

/// Does not change after the handshake.
struct connection_state {
    tls::version version{};
    std::string cipher;      // "TLS_AES_128_GCM_SHA256"
    std::string alpn;        // the protocol agreed on; empty: none
    std::string server_name; // what the client has asked for; empty: nothing
    peer_certificate peer;   // empty: none was shown, or the session goes on without
    bool resumed = false;    // an earlier session goes on
    bool verified = false;   // the peer's certificate was verified, now or when the session began
    bool ktls = false;       // the kernel encrypts what is written: see client_options::ktls
};

} // namespace mpg::tls
