// The keys of a server's session tickets.
#pragma once

#include <mpg/base/clock.hpp>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

namespace mpg::tls::detail {

/// Who has a ticket's key can read the connections that were resumed by it without a new exchange of keys. So
/// each is used for an hour, known for two more (as long as OpenSSL lets a session live), and then forgotten.
/// OpenSSL's own would stay as long as the configuration.
class ticket_keys {
  public:
    using label = std::array<unsigned char, 16>;
    struct key {
        label name;
        std::array<unsigned char, 32> cipher, mac;
        base::nanos born;
    };
    static constexpr base::nanos used_for = 3600LL * 1'000'000'000, known_for = 3 * used_for;

    /// To encrypt with. nullopt: there is no randomness.
    std::optional<key> current(base::nanos now) {
        const std::lock_guard lock(mutex_);
        if (all_.empty() || now - all_.back().born >= used_for) {
            key fresh{};
            fresh.born = now;
            if (RAND_bytes(fresh.name.data(), fresh.name.size()) != 1 ||
                RAND_priv_bytes(fresh.cipher.data(), fresh.cipher.size()) != 1 ||
                RAND_priv_bytes(fresh.mac.data(), fresh.mac.size()) != 1)
                return std::nullopt;
            forget(now);
            all_.push_back(fresh);
        }
        return all_.back();
    }
    std::optional<key> find(const label& name, base::nanos now) {
        const std::lock_guard lock(mutex_);
        forget(now);
        for (const key& k : all_)
            if (k.name == name) return k;
        return std::nullopt;
    }

    /// As SSL_CTX_set_tlsext_ticket_key_evp_cb wants it: 1: good; 2: good, but give out a new ticket; 0: no
    /// ticket; negative: an error.
    int prepare(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                bool encrypt) {
        label asked{};
        std::copy_n(name, asked.size(), asked.begin());
        auto k = encrypt ? current(base::now()) : find(asked, base::now());
        if (!k) return encrypt ? -1 : 0;
        char digest[] = "sha256";
        const OSSL_PARAM params[] = {
            OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac.data(), k->mac.size()),
            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
        if (EVP_MAC_CTX_set_params(mac, params) != 1) return -1;
        if (!encrypt)
            return EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, k->cipher.data(), iv) != 1 ? -1
                   : SSL_version(ssl) >= TLS1_3_VERSION || base::now() - k->born >= used_for         ? 2
                                                                                                     : 1;
        std::copy(k->name.begin(), k->name.end(), name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
        return EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, k->cipher.data(), iv) == 1 ? 1 : -1;
    }

  private:
    void forget(base::nanos now) {
        std::erase_if(all_, [&](const key& k) { return now - k.born >= known_for; });
    }
    std::mutex mutex_;     // as the session cache's: called from inside OpenSSL
    std::vector<key> all_; // guarded by mutex_; the latest one last
};

} // namespace mpg::tls::detail
