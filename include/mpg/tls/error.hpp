// What can go wrong with TLS, as error codes.
//
// Three categories: this room's own errc; OpenSSL's reasons (category(), the value is the packed code of its
// error queue: alerts that the peer has sent are among them, "tlsv1 alert unknown ca"); and why a certificate
// was not accepted (verify_category(), the value is an X509_V_ERR_..).
//
// OpenSSL's error queue belongs to the thread, and a task may change threads whenever it suspends. So each
// section that calls OpenSSL empties the queue, calls, and reads the queue, without anything between that
// could suspend. A preempted task keeps its thread.
#pragma once

#include <mpg/base/error.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <string>
#include <system_error>

namespace mpg::tls {

/// truncated: the peer's stream ended without a close_notify, so maybe somebody cut it off. no_server_name: a
/// client that verifies the server's name knows none. no_certificate: a server has none for this client.
/// too_many_messages: a peer that takes nothing wants answers without end. failed: OpenSSL gave no reason.
/// new_keys: the peer changes its keys and wants ours changed, which the kernel has (see options::ktls).
enum class errc { truncated = 1, no_server_name, no_certificate, too_many_messages, failed, new_keys };

inline const std::error_category& own_category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "mpg.tls"; }
        std::string message(int value) const override {
            switch (static_cast<errc>(value)) {
            case errc::truncated:
                return "the stream ended without a close_notify";
            case errc::no_server_name:
                return "no server name is known that the certificate could be for";
            case errc::no_certificate:
                return "no certificate";
            case errc::too_many_messages:
                return "the peer asks for too many answers";
            case errc::failed:
                return "TLS failed";
            case errc::new_keys:
                return "the peer wants new keys, and the kernel encrypts with the old ones";
            }
            return "unknown error";
        }
    };
    static const category instance;
    return instance;
}
inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), own_category()}; }

/// Of OpenSSL's reasons.
inline const std::error_category& category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "openssl"; }
        std::string message(int value) const override {
            const auto code = static_cast<unsigned long>(static_cast<unsigned>(value));
            if (const char* reason = ERR_reason_error_string(code)) return reason;
            char text[128];
            ERR_error_string_n(code, text, sizeof text);
            return text;
        }
    };
    static const category instance;
    return instance;
}

/// Of X509_V_ERR_...: why a certificate was not accepted.
inline const std::error_category& verify_category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "mpg.tls.verify"; }
        std::string message(int value) const override {
            return std::string("certificate: ") + X509_verify_cert_error_string(value);
        }
    };
    static const category instance;
    return instance;
}

} // namespace mpg::tls

template <> struct std::is_error_code_enum<mpg::tls::errc> : std::true_type {};

namespace mpg::tls::detail {

/// The first error in this thread's queue, which is empty then. In the section that made the error.
inline std::error_code take_error() noexcept {
    const unsigned long e = ERR_get_error();
    ERR_clear_error();
    if (e == 0) return errc::failed;
    if (ERR_SYSTEM_ERROR(e)) return {ERR_GET_REASON(e), std::system_category()};
    if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE) return std::make_error_code(std::errc::not_enough_memory);
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return errc::truncated;
    return {static_cast<int>(static_cast<unsigned>(e)), category()};
}

} // namespace mpg::tls::detail
