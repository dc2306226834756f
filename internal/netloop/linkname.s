// The compiler takes functions without a body, as goyield, where there is assembly.
