// What the kernel must be told to encrypt in OpenSSL's place (kTLS).
//
// OpenSSL does not publish its keys, but it tells the secret from which they follow to whoever keeps a key
// log, and each record that it writes to whoever watches its messages. RFC 8446 says the rest: 7.1 and 7.3
// how keys follow from a secret, 5.3 what becomes of the number of a record. So nothing here depends on
// OpenSSL's inside.
#pragma once

#include <mpg/io/syscall.hpp>
#include <mpg/tls/handles.hpp>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <span>
#include <string_view>
#include <sys/socket.h>

namespace mpg::io::sys {

/// The socket gets a layer for TLS, which passes all on until it has keys. -ENOENT: the kernel has none.
MPG_NOINLINE inline outcome set_tls(int fd) noexcept {
    return os::setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0 || errno == EEXIST ? 0 : -errno;
}
MPG_NOINLINE inline outcome set_tls_keys(int fd, const void* keys, std::size_t n) noexcept {
    return os::setsockopt(fd, SOL_TLS, TLS_TX, keys, static_cast<::socklen_t>(n)) == 0 ? 0 : -errno;
}
/// A record that says so: what is sent otherwise is data.
MPG_NOINLINE inline outcome send_alert(int fd, std::span<const std::byte> alert) noexcept {
    constexpr unsigned char type = 21;
    alignas(::cmsghdr) char control[CMSG_SPACE(sizeof type)] = {};
    ::iovec piece{const_cast<std::byte*>(alert.data()), alert.size()};
    ::msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ::cmsghdr* const c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_TLS;
    c->cmsg_type = TLS_SET_RECORD_TYPE;
    c->cmsg_len = CMSG_LEN(sizeof type);
    std::memcpy(CMSG_DATA(c), &type, sizeof type);
    return sys::sendmsg(fd, &m, MSG_DONTWAIT);
}

} // namespace mpg::io::sys

namespace mpg::tls::detail {

/// The traffic secret of one direction; its size is that of the suite's hash.
struct traffic_secret {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    std::size_t size = 0;

    traffic_secret() = default;
    traffic_secret(const traffic_secret&) = delete;
    traffic_secret& operator=(const traffic_secret&) = delete;
    ~traffic_secret() { forget(); }
    void forget() noexcept {
        OPENSSL_cleanse(bytes.data(), bytes.size());
        size = 0;
    }
    /// From hexadecimal digits. False: it is none.
    bool read(std::string_view digits) noexcept {
        const auto value = [](char c) noexcept {
            return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        };
        if (digits.size() % 2 != 0 || digits.size() / 2 > bytes.size()) return false;
        for (size = 0; size != digits.size() / 2; ++size) {
            const int high = value(digits[2 * size]), low = value(digits[2 * size + 1]);
            if (high < 0 || low < 0) return forget(), false;
            bytes[size] = static_cast<unsigned char>(high << 4 | low);
        }
        return size != 0;
    }
    /// HKDF-Expand-Label with an empty context, of which the first block is enough: to.size() <= size.
    bool expand(const EVP_MD* hash, std::string_view label, std::span<unsigned char> to) const noexcept {
        std::array<unsigned char, 32> info{};
        std::size_t n = 0;
        const auto put = [&](std::string_view s) {
            std::memcpy(info.data() + n, s.data(), s.size());
            n += s.size();
        };
        constexpr std::string_view prefix = "tls13 ";
        info[n++] = 0;
        info[n++] = static_cast<unsigned char>(to.size());
        info[n++] = static_cast<unsigned char>(prefix.size() + label.size());
        put(prefix);
        put(label);
        info[n++] = 0; // the context's length
        info[n++] = 1; // the number of the block
        std::array<unsigned char, EVP_MAX_MD_SIZE> block{};
        unsigned length = 0;
        const bool ok =
            HMAC(hash, bytes.data(), static_cast<int>(size), info.data(), n, block.data(), &length) &&
            length >= to.size();
        if (ok) std::memcpy(to.data(), block.data(), to.size());
        OPENSSL_cleanse(block.data(), block.size());
        return ok;
    }
};

/// The argument of setsockopt(SOL_TLS, TLS_TX): key, nonce and the number of the next record.
class kernel_keys {
  public:
    kernel_keys(const kernel_keys&) = delete;
    kernel_keys& operator=(const kernel_keys&) = delete;
    ~kernel_keys() { OPENSSL_cleanse(&info_, sizeof info_); }

    /// Of a connection whose suite the kernel does not know, or which is not TLS 1.3, there are none
    /// (is_set).
    kernel_keys(const SSL* ssl, const traffic_secret& secret, std::uint64_t next_record) noexcept {
        const SSL_CIPHER* const suite = SSL_get_current_cipher(ssl);
        if (SSL_version(ssl) != TLS1_3_VERSION || !suite || secret.size == 0) return;
        const EVP_MD* const hash = SSL_CIPHER_get_handshake_digest(suite);
        std::memset(&info_, 0, sizeof info_);
        switch (SSL_CIPHER_get_cipher_nid(suite)) {
        case NID_aes_128_gcm:
            set(info_.aes128, TLS_CIPHER_AES_GCM_128, hash, secret, next_record);
            break;
        case NID_aes_256_gcm:
            set(info_.aes256, TLS_CIPHER_AES_GCM_256, hash, secret, next_record);
            break;
#if defined(TLS_CIPHER_CHACHA20_POLY1305)
        case NID_chacha20_poly1305:
            set(info_.chacha, TLS_CIPHER_CHACHA20_POLY1305, hash, secret, next_record);
            break;
#endif
        default:
            break;
        }
    }
    bool is_set() const noexcept { return size_ != 0; }
    const void* data() const noexcept { return &info_; }
    std::size_t size() const noexcept { return size_; }

  private:
    template <class Info>
    void set(Info& to, unsigned short cipher, const EVP_MD* hash, const traffic_secret& secret,
             std::uint64_t next) noexcept {
        to.info.version = TLS_1_3_VERSION;
        to.info.cipher_type = cipher;
        // The kernel wants the nonce in two pieces, of which the first one may be empty.
        std::array<unsigned char, 12> nonce{};
        constexpr std::size_t first = nonce.size() - sizeof to.iv;
        if (!secret.expand(hash, "key", to.key) || !secret.expand(hash, "iv", nonce)) return;
        if constexpr (first != 0) std::memcpy(to.salt, nonce.data(), first);
        std::memcpy(to.iv, nonce.data() + first, sizeof to.iv);
        OPENSSL_cleanse(nonce.data(), nonce.size());
        for (std::size_t i = sizeof to.rec_seq; i-- != 0; next >>= 8)
            to.rec_seq[i] = static_cast<unsigned char>(next);
        size_ = sizeof to;
    }

    union {
        ::tls12_crypto_info_aes_gcm_128 aes128;
        ::tls12_crypto_info_aes_gcm_256 aes256;
#if defined(TLS_CIPHER_CHACHA20_POLY1305)
        ::tls12_crypto_info_chacha20_poly1305 chacha;
#endif
    } info_{};
    std::size_t size_ = 0;
};

} // namespace mpg::tls::detail
