// Not built here: there is no Android in the project's tests. A sample of what an app does with the folder that
//
//     sorano export onnx model --precision int8
//
// writes: copy its files into the app's storage, add com.microsoft.onnxruntime:onnxruntime-android to Gradle, and call
//
//     val clip = Sorano(folder).generate("a red ball bounces on the grass at sunset", seed = 5)
//
// Euler's steps instead of the engine's UniPC, and Java's noise instead of torch's: a seed means another video than
// elsewhere. Frames that leave the phone must be marked and signed first; `sorano export web` does so in a browser.

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import org.json.JSONObject
import java.io.File
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.security.MessageDigest
import java.util.Random
import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.pow
import kotlin.math.roundToInt
import kotlin.math.sin

class Sorano(private val folder: File) {
    private val card = JSONObject(File(folder, "model.json").readText())
    private val shapes = card.getJSONObject("shapes")
    private val latent = ints("latent_CTHW") // channels, latent frames, rows, columns
    private val patch = ints("patch_size")
    private val textTokens = shapes.getInt("text_tokens")
    private val numTokens = latent[1] / patch[0] * (latent[2] / patch[1]) * (latent[3] / patch[2])
    private val rotary = rotary()
    private val environment = OrtEnvironment.getEnvironment()
    private val sessions = listOf("text_encoder", "transformer", "decoder").associateWith { open(it) }
    private val vocabulary = JSONObject(File(folder, "tokenizer.json").readText()).getJSONObject("model")
        .getJSONObject("vocab")

    /** Frames of 8-bit RGB, one after the other: `num_frames` of `height` x `width` x 3. */
    fun generate(prompt: String, seed: Long, numSteps: Int = card.getInt("num_steps")): ByteArray {
        val guidance = card.getDouble("guidance").toFloat()
        val texts = listOf(prompt, "").map { encodeText(it) }
        val random = Random(seed)
        var x = FloatArray(latent.reduce(Int::times)) { random.nextGaussian().toFloat() }
        val sigmas = sigmas(numSteps)
        for (step in 0 until numSteps) {
            val (with, without) = texts.map { velocity(x, sigmas[step], it) }
            val change = sigmas[step + 1] - sigmas[step]
            x = FloatArray(x.size) { x[it] + change * (without[it] + guidance * (with[it] - without[it])) }
        }
        return decode(x)
    }

    private class Text(val tokens: FloatArray, val bias: FloatArray)

    private fun encodeText(prompt: String): Text {
        val words = Regex("[\\u3400-\\u9fff]|\\p{P}|[^\\s\\p{P}\\u3400-\\u9fff]+").findAll(prompt.lowercase())
        val unknown = vocabulary.getLong("<unk>")
        val ids = words.map { vocabulary.optLong(it.value, unknown) }.toList() + vocabulary.getLong("</s>")
        require(ids.size < textTokens) { "the prompt is ${ids.size} tokens long; the graph reads ${textTokens - 1}" }
        val padded = LongArray(textTokens) { ids.getOrElse(it) { 0L } }
        val real = FloatArray(textTokens) { if (it < ids.size) 1f else 0f }
        val tokens = run("text_encoder", mapOf("ids" to longs(padded), "real" to floats(real, textTokens)))
        val bias = FloatArray(textTokens) { if (it < ids.size) 0f else -1e9f }
        bias[ids.size] = ln((card.getInt("text_positions") - ids.size).toFloat()) // one pad key stands for all padded positions
        return Text(tokens, bias)
    }

    private fun velocity(x: FloatArray, sigma: Float, text: Text): FloatArray {
        val width = shapes.getInt("head_dim") / 2
        val (rowsCos, rowsSin) = rotary
        val inputs = mapOf(
            "patches" to floats(toPatches(x), numTokens, x.size / numTokens),
            "timestep" to floats(floatArrayOf(sigma * 1000, 0f), 2),
            "known" to floats(FloatArray(numTokens), numTokens),
            "rope_cos" to floats(rowsCos, numTokens, width),
            "rope_sin" to floats(rowsSin, numTokens, width),
            "text" to floats(text.tokens, textTokens, text.tokens.size / textTokens),
            "bias" to floats(text.bias, textTokens),
        )
        return fromPatches(run("transformer", inputs))
    }

    private fun decode(x: FloatArray): ByteArray {
        val shape = longArrayOf(1, *latent.map(Int::toLong).toLongArray())
        val video = run("decoder", mapOf("latent" to OnnxTensor.createTensor(environment, FloatBuffer.wrap(x), shape)))
        val area = shapes.getInt("num_frames") * shapes.getInt("height") * shapes.getInt("width")
        return ByteArray(3 * area) { ((video[it % 3 * area + it / 3] + 1) * 127.5f).roundToInt().coerceIn(0, 255).toByte() }
    }

    /** Noise levels from 1 to 0: equal steps, shifted towards noise (arXiv:2403.03206). */
    private fun sigmas(numSteps: Int): FloatArray {
        val shift = card.getDouble("shift").toFloat()
        return FloatArray(numSteps + 1) { (1f - it.toFloat() / numSteps).let { t -> shift * t / (1 + (shift - 1) * t) } }
    }

    /** Cosines and sines of each token's place in time, rows and columns (RoPE, arXiv:2104.09864). */
    private fun rotary(): Pair<FloatArray, FloatArray> {
        val width = shapes.getInt("head_dim")
        val side = 2 * (width / 6)
        val angles = ArrayList<Double>()
        for (t in 0 until latent[1] / patch[0]) for (y in 0 until latent[2] / patch[1]) for (z in 0 until latent[3] / patch[2])
            for ((place, size) in listOf(t to width - 2 * side, y to side, z to side))
                for (k in 0 until size step 2) angles += place / 10000.0.pow(k.toDouble() / size)
        return FloatArray(angles.size) { cos(angles[it]).toFloat() } to FloatArray(angles.size) { sin(angles[it]).toFloat() }
    }

    private fun toPatches(x: FloatArray) = FloatArray(x.size).also { out -> eachNumber(false) { at, place -> out[at] = x[place] } }

    private fun fromPatches(x: FloatArray) = FloatArray(x.size).also { out -> eachNumber(true) { at, place -> out[place] = x[at] } }

    /** Each number of the tokens' rows and its place in the latent; channels come first in a patch, or last. */
    private fun eachNumber(channelsLast: Boolean, visit: (Int, Int) -> Unit) {
        val (c, t, h, w) = latent.toList()
        val (p, q, r) = patch.toList()
        var at = 0
        for (i in 0 until t step p) for (y in 0 until h step q) for (z in 0 until w step r)
            for (n in 0 until c * p * q * r) {
                val inside = p * q * r
                val channel = if (channelsLast) n % c else n / inside
                val rest = if (channelsLast) n / c else n % inside
                val place = ((channel * t + i + rest / (q * r)) * h + y + rest / r % q) * w + z + rest % r
                visit(at++, place)
            }
    }

    private fun open(name: String): OrtSession {
        val file = File(folder, "$name.onnx")
        val digest = MessageDigest.getInstance("SHA-256").digest(file.readBytes()).joinToString("") { "%02x".format(it) }
        val pinned = card.getJSONObject("files").getJSONObject("$name.onnx").getString("sha256")
        require(digest == pinned) { "$file is damaged: its SHA-256 is not the one in model.json; export it again" }
        return environment.createSession(file.path, OrtSession.SessionOptions())
    }

    private fun run(name: String, inputs: Map<String, OnnxTensor>): FloatArray {
        sessions.getValue(name).run(inputs).use { made ->
            val buffer = (made[0] as OnnxTensor).floatBuffer
            return FloatArray(buffer.remaining()).also { buffer.get(it) }
        }
    }

    private fun floats(values: FloatArray, vararg shape: Int) =
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), shape.map(Int::toLong).toLongArray())

    private fun longs(values: LongArray) =
        OnnxTensor.createTensor(environment, LongBuffer.wrap(values), longArrayOf(values.size.toLong()))

    private fun ints(name: String) = shapes.getJSONArray(name).let { held -> IntArray(held.length()) { held.getInt(it) } }
}
