/* y = W x + bias */
static void linear(const float *x, float *y, const weight *w, const float *scale, const float *bias, int inputs, int outputs)
{
    int i, o;
    (void)scale;
    for (o = 0; o < outputs; o++) {
        float sum = 0.0f;
        for (i = 0; i < inputs; i++) {
            sum += (float)*w++ * x[i];
        }
        y[o] = SCALED(sum, scale, o) + bias[o];
    }
}
