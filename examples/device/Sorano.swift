// Not built here: there is no iOS in the project's tests. A sample of what an app does with the folder that
//
//     sorano export onnx model --precision int8
//
// writes: add its files to the app, and the package onnxruntime-swift-package-manager to Xcode, and call
//
//     let clip = try Sorano(folder: url).generate("a red ball bounces on the grass at sunset", seed: 5)
//
// Euler's steps instead of the engine's UniPC, and GameplayKit's noise instead of torch's: a seed means another video
// than elsewhere. Frames that leave the phone must be marked and signed first; `sorano export web` does so in a browser.

import CryptoKit
import Foundation
import GameplayKit
import OnnxRuntimeBindings

struct Card: Decodable {
    struct Shapes: Decodable {
        let num_frames, width, height, text_tokens, head_dim: Int
        let latent_CTHW, patch_size: [Int]
    }
    struct File: Decodable { let sha256: String }
    let shapes: Shapes
    let shift, guidance: Float
    let num_steps, text_positions: Int
    let files: [String: File]
}

enum SoranoError: Error { case damaged(String), promptTooLong(Int) }

final class Sorano {
    private let card: Card
    private let environment: ORTEnv
    private var sessions: [String: ORTSession] = [:]
    private let vocabulary: [String: Int64]
    private var shapes: Card.Shapes { card.shapes }
    private var numTokens: Int { zip(shapes.latent_CTHW.dropFirst(), shapes.patch_size).reduce(1) { $0 * ($1.0 / $1.1) } }

    init(folder: URL) throws {
        card = try JSONDecoder().decode(Card.self, from: Data(contentsOf: folder.appendingPathComponent("model.json")))
        environment = try ORTEnv(loggingLevel: .warning)
        let file = try JSONSerialization.jsonObject(with: Data(contentsOf: folder.appendingPathComponent("tokenizer.json")))
        let model = (file as? [String: Any])?["model"] as? [String: Any]
        vocabulary = (model?["vocab"] as? [String: Int] ?? [:]).mapValues(Int64.init)
        for name in ["text_encoder", "transformer", "decoder"] {
            let place = folder.appendingPathComponent("\(name).onnx")
            let digest = SHA256.hash(data: try Data(contentsOf: place)).map { String(format: "%02x", $0) }.joined()
            guard digest == card.files["\(name).onnx"]?.sha256 else { throw SoranoError.damaged(place.path) }
            sessions[name] = try ORTSession(env: environment, modelPath: place.path, sessionOptions: nil)
        }
    }

    /// Frames of 8-bit RGB, one after the other: `num_frames` of `height` x `width` x 3.
    func generate(_ prompt: String, seed: UInt64, numSteps: Int? = nil) throws -> [UInt8] {
        let count = numSteps ?? card.num_steps
        let texts = try [prompt, ""].map(encodeText)
        let normal = GKGaussianDistribution(randomSource: GKMersenneTwisterRandomSource(seed: seed), mean: 0, deviation: 1000)
        var x = (0..<shapes.latent_CTHW.reduce(1, *)).map { _ in Float(normal.nextInt()) / 1000 }
        let sigmas = (0...count).map { step -> Float in // shifted towards noise (arXiv:2403.03206)
            let t = 1 - Float(step) / Float(count)
            return card.shift * t / (1 + (card.shift - 1) * t)
        }
        for step in 0..<count {
            let with = try velocity(x, sigmas[step], texts[0]), without = try velocity(x, sigmas[step], texts[1])
            let change = sigmas[step + 1] - sigmas[step]
            for at in x.indices { x[at] += change * (without[at] + card.guidance * (with[at] - without[at])) }
        }
        return try decode(x)
    }

    private func encodeText(_ prompt: String) throws -> (tokens: [Float], bias: [Float]) {
        let pattern = try NSRegularExpression(pattern: "[\\u3400-\\u9fff]|\\p{P}|[^\\s\\p{P}\\u3400-\\u9fff]+")
        let text = prompt.lowercased()
        let words = pattern.matches(in: text, range: NSRange(text.startIndex..., in: text)).map { String(text[Range($0.range, in: text)!]) }
        let ids = words.map { vocabulary[$0] ?? vocabulary["<unk>"]! } + [vocabulary["</s>"]!]
        guard ids.count < shapes.text_tokens else { throw SoranoError.promptTooLong(ids.count) }
        let padded = ids + [Int64](repeating: 0, count: shapes.text_tokens - ids.count)
        let real = (0..<shapes.text_tokens).map { Float($0 < ids.count ? 1 : 0) }
        let numbers = try ORTValue(tensorData: NSMutableData(bytes: padded, length: 8 * padded.count), elementType: .int64, shape: [NSNumber(value: padded.count)])
        let tokens = try run("text_encoder", ["ids": numbers, "real": floats(real, [real.count])], "text")
        var bias = real.map { $0 > 0 ? Float(0) : -1e9 }
        bias[ids.count] = log(Float(card.text_positions - ids.count)) // one pad key stands for all padded positions
        return (tokens, bias)
    }

    private func velocity(_ x: [Float], _ sigma: Float, _ text: (tokens: [Float], bias: [Float])) throws -> [Float] {
        let (cosines, sines) = rotary
        let half = shapes.head_dim / 2, size = shapes.text_tokens
        let made = try run("transformer", [
            "patches": floats(patches(x, back: false), [numTokens, x.count / numTokens]),
            "timestep": floats([sigma * 1000, 0], [2]),
            "known": floats([Float](repeating: 0, count: numTokens), [numTokens]),
            "rope_cos": floats(cosines, [numTokens, half]),
            "rope_sin": floats(sines, [numTokens, half]),
            "text": floats(text.tokens, [size, text.tokens.count / size]),
            "bias": floats(text.bias, [size]),
        ], "velocity")
        return patches(made, back: true)
    }

    private func decode(_ x: [Float]) throws -> [UInt8] {
        let video = try run("decoder", ["latent": floats(x, [1] + shapes.latent_CTHW)], "video")
        let area = shapes.num_frames * shapes.height * shapes.width
        return (0..<3 * area).map { UInt8(min(max((video[$0 % 3 * area + $0 / 3] + 1) * 127.5, 0), 255).rounded()) }
    }

    /// Cosines and sines of each token's place in time, rows and columns (RoPE, arXiv:2104.09864).
    private lazy var rotary: ([Float], [Float]) = {
        let side = 2 * (shapes.head_dim / 6), sizes = [shapes.head_dim - 2 * side, side, side]
        let grid = zip(shapes.latent_CTHW.dropFirst(), shapes.patch_size).map { $0 / $1 }
        var angles: [Double] = []
        for t in 0..<grid[0] { for y in 0..<grid[1] { for z in 0..<grid[2] {
            for (place, size) in zip([t, y, z], sizes) {
                for k in stride(from: 0, to: size, by: 2) { angles.append(Double(place) / pow(10000, Double(k) / Double(size))) }
            }
        } } }
        return (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
    }()

    /// The latent as one row for each token, channels first in a patch; or back, where they come last.
    private func patches(_ x: [Float], back: Bool) -> [Float] {
        let (c, t, h, w) = (shapes.latent_CTHW[0], shapes.latent_CTHW[1], shapes.latent_CTHW[2], shapes.latent_CTHW[3])
        let (p, q, r) = (shapes.patch_size[0], shapes.patch_size[1], shapes.patch_size[2])
        var out = [Float](repeating: 0, count: x.count), at = 0
        for i in stride(from: 0, to: t, by: p) { for y in stride(from: 0, to: h, by: q) { for z in stride(from: 0, to: w, by: r) {
            for n in 0..<c * p * q * r {
                let channel = back ? n % c : n / (p * q * r), rest = back ? n / c : n % (p * q * r)
                let place = ((channel * t + i + rest / (q * r)) * h + y + rest / r % q) * w + z + rest % r
                if back { out[place] = x[at] } else { out[at] = x[place] }
                at += 1
            }
        } } }
        return out
    }

    private func run(_ name: String, _ inputs: [String: ORTValue], _ output: String) throws -> [Float] {
        let made = try sessions[name]!.run(withInputs: inputs, outputNames: [output], runOptions: nil)
        let data = try made[output]!.tensorData() as Data
        return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    private func floats(_ values: [Float], _ shape: [Int]) throws -> ORTValue {
        try ORTValue(tensorData: NSMutableData(bytes: values, length: 4 * values.count), elementType: .float, shape: shape.map { NSNumber(value: $0) })
    }
}
