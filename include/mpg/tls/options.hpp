// How clients and servers of TLS behave.
#pragma once

#include <mpg/io/result.hpp>
#include <mpg/tls/certificate.hpp>
#include <mpg/tls/roots.hpp>
#include <mpg/tls/state.hpp>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace mpg::tls {

/// full: the chain leads to a root and the certificate is for the server's name. chain: any name. none:
/// anything is accepted, so that anybody may sit between; for tests.
enum class verification { full, chain, none };

struct client_options {
    std::optional<tls::roots> roots = std::nullopt; // not set: roots::system()
    std::string server_name = {};       // asked for (SNI) and verified; empty: the host that is connected to
    std::vector<std::string> alpn = {}; // protocols, the preferred one first; empty: none are offered
    version min_version = version::tls1_2;
    version max_version = version::tls1_3;
    verification verify = verification::full;
    std::optional<certificate_source> certificate = std::nullopt; // shown to servers that ask
    std::size_t sessions = 64; // kept to be resumed, the latest ones; 0: none
    std::string ciphers = {};  // of TLS 1.2, in OpenSSL's notation; empty: OpenSSL's default
    std::string suites = {};   // of TLS 1.3, likewise
    /// Called after each handshake, before it counts; an error breaks the connection off. May suspend.
    std::function<std::error_code(const connection_state&)> check = {};
    /// Called with lines in the format of NSS's key log, for Wireshark. Whoever has them can read everything.
    std::function<void(std::string_view)> key_log = {};
    /// Let the kernel encrypt what is written, where it can: TLS 1.3 over TCP, Linux with the module `tls`. Else all
    /// is as without; connection_state::ktls says which. It makes `copy` from files and sockets go without buffers.
    /// A peer that wants new keys on the way (few do) then breaks the connection with errc::new_keys.
    bool ktls = false;
};

/// none: not asked for. verify_if_given: asked for; what is shown must be valid. require: one must be shown.
enum class client_certificates { none, verify_if_given, require };

/// What a client has asked for, for server_options::choose.
struct client_hello {
    std::string_view server_name; // empty: nothing
};

struct server_options {
    /// At least one, unless `choose` is set. The ones that are for the name that the client asks for are
    /// used, or else the first one. Several for one name may differ in the kind of key.
    std::vector<certificate_source> certificates = {};
    /// Called in each handshake that shows a certificate; may suspend (to fetch one). Its error ends the
    /// handshake.
    std::function<result<tls::certificate>(const client_hello&)> choose = {};
    std::vector<std::string> alpn = {}; // protocols, the preferred one first; empty: whatever the client says
    version min_version = version::tls1_2;
    version max_version = version::tls1_3;
    client_certificates client = client_certificates::none;
    std::optional<tls::roots> client_roots = std::nullopt; // who signs clients' certificates
    bool resume = true;                                    // sessions, by tickets: nothing is kept here
    std::string ciphers = {};
    std::string suites = {};
    std::function<std::error_code(const connection_state&)> check = {}; // as for clients
    std::function<void(std::string_view)> key_log = {};
    bool ktls = false; // as for clients
};

} // namespace mpg::tls
